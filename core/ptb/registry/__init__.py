"""What there is to choose from: plugins found and loaded, components by name, their settings."""
