"""Linear models trained on a GPU: what is launched (`slices`), the kernel (`descent`), its passes over rows."""
