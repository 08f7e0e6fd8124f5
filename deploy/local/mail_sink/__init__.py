"""A mailbox for everybody: takes a local stack's mail over real SMTP, shows it in a browser, delivers nothing."""
