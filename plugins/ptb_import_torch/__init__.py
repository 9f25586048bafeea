"""The weights of a checkpoint of PyTorch as a safetensors file."""
