"""Msingi: a kit for honest backends, products that stand on it, and checks that prove them."""
