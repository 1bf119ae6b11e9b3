"""The responder: matches runtime events against rules and requests actions.

Started by wiring; works against ports only. Stateless: must never hold a command key, a cooldown or a ledger.
"""
