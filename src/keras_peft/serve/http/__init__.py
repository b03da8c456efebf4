"""HTTP server: the application, its protocols in routes/, and its web page."""

from keras_peft.extras import EXTRAS, need

need("Serving", *EXTRAS["serve"])
