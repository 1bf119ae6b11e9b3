"""What is durable on this side of Kafka: the node's journal, the dispatcher's ledger, history, and gathered objects."""
