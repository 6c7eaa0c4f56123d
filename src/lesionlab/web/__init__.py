"""The server: a bundle's answers over HTTP, and the page that asks for them."""
