"""Who is covered, who is a member, who cares for them."""
