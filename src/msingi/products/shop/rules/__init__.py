"""Decisions and problems: no database, no clock, no await."""
