"""The grammar: shapes, parts at places, tokens made of them, and grammars in files."""
