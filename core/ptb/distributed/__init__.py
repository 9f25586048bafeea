"""Several processes that train together: who there is, how they are started, and what they agree on."""
