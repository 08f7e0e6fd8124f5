"""An exhaustive model of docs/protocol.md: machines, one a part of the protocol, and a checker that explores them."""
