"""How many SQL statements a batch costs: counted on the real connection, for every way that events are taken."""
