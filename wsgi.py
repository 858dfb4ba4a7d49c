"""The blog as an object, which every WSGI server takes: `gunicorn wsgi:app`, for instance."""

import sys

import click

from app import create_app

# After any other status of a worker, gunicorn would start the next one, for ever.
FAILED = 3 if "gunicorn" in sys.modules else 1

try:
    app = application = create_app()
except click.ClickException as error:
    error.show()
    sys.exit(FAILED)
