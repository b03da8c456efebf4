"""The server's HTTP: its application, its protocols in routes/, and its page. Only here is HTTP known."""
