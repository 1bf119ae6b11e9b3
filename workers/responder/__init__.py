"""The responder: matches runtime events against rules and asks for actions.

Started by bootstrap; works against ports only. Stateless: must never hold a command key, a cooldown or a ledger.
"""
