"""Networks of papers, one file each, registered with timm."""
