"""The array-API namespace `gm.numpy`."""
