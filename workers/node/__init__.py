"""The node worker: takes signed commands for its own node from the bus into a journal, runs them, reports outcomes.

Started by wiring; works against ports only. Must never act without a journalled intent and never import another
worker or an adapter.
"""
