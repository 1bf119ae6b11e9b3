"""The projector: folds signed results, audit and node records into the history store.

Started by wiring; works against ports only. Must never fold what does not verify and never read requests.
"""
