"""Webhooks: what happened is sent, signed, to the addresses that asked to be told of it."""
