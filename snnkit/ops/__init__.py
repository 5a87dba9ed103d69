"""Functions on tensors; each picks CUDA, compiled CPU or the plain PyTorch reference by the tensor it gets."""
