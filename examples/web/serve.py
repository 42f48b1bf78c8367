#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Serves a folder as examples/web/run does: serve.py FOLDER [PORT]. With the headers that isolate the page from others, so that it
has shared memory and threads; without them it draws on one thread."""
import functools
import http.server
import sys


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, '.js': 'text/javascript', '.wasm': 'application/wasm',
                      '.webmanifest': 'application/manifest+json', '.safetensors': 'application/octet-stream'}

    isolated = True

    def end_headers(self):
        if self.isolated:
            self.send_header('Cross-Origin-Opener-Policy', 'same-origin')
            self.send_header('Cross-Origin-Embedder-Policy', 'require-corp')
        self.send_header('Cache-Control', 'no-cache')
        super().end_headers()

    def log_message(self, *arguments):
        pass


class PlainHandler(Handler):
    isolated = False


def server(folder, port, handler=Handler):
    return http.server.ThreadingHTTPServer(('127.0.0.1', port), functools.partial(handler, directory=folder))


if __name__ == '__main__':
    with server(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8000) as s:
        print(f'http://localhost:{s.server_address[1]}/', flush=True)
        try:
            s.serve_forever()
        except KeyboardInterrupt:
            pass
