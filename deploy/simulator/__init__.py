"""A population of simulated members with believable lives, published only through the public HTTP and Kafka interfaces.

Nobody here is real: names are drawn from lists of placeholder words, addresses end in example.org, phone numbers begin
with +1 555.
"""
