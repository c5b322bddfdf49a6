"""Networks, and the layers PyTorch lacks."""
