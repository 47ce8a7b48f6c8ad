"""Boards: what they have, their top level, the host link and the build flow."""
