"""The kit's own fixtures, for every test of the house."""

pytest_plugins = ["msingi.kit.testing"]
