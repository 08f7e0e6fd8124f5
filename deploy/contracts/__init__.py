"""Generated from the contracts: schemas, AsyncAPI, access rules, reference pages. Nothing here runs in a service."""
