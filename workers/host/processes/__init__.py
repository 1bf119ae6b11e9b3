"""The processes of this host: held by pidfd, described by /proc, signalled through the descriptor alone."""
