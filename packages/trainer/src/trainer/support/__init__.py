"""Helpers without a room of their own, which import no other room."""
