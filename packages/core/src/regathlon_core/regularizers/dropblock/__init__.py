"""DropBlock (Ghiasi et al., 2018)."""
