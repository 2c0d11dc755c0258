"""One file a schema, named by its number; what was released is never changed."""
