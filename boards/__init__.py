"""Boards: what they have, their top level, the host link and the build flow."""

from gategrad.boards.board import Board, boards, find_board

__all__ = ["Board", "boards", "find_board"]
