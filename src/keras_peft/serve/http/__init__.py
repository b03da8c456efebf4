"""The server's HTTP: its application, its protocols in routes/, and its page. Only here is HTTP known."""

from keras_peft.extras import EXTRAS, need

need("Serving", *EXTRAS["serve"])
