"""Many problems on a GPU: what is launched (`launches`), the kernel (`solve`), functions of users (`objectives`)."""
