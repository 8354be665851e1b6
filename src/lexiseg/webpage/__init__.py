"""A page in the browser: a photograph, words, and which pixel is what. Only :mod:`~lexiseg.webpage.page` knows Gradio."""
