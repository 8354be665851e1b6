"""The backend as a web application, for gunicorn; run by itself, on a port of this machine."""

import argparse

from label_studio_ml.api import init_app
from model import Lexiseg

app = init_app(model_class=Lexiseg)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9090)
    given = parser.parse_args()
    app.run(host=given.host, port=given.port)
