"""What an audit log tells: read back, replayed under another policy, labelled, drawn."""
