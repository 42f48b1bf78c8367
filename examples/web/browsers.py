# SPDX-License-Identifier: Apache-2.0
"""Browsers that a program drives, with Python's standard library alone: Chromium by chromedriver (W3C WebDriver over HTTP), Firefox
by its own Marionette protocol (the same commands over a socket)."""
import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Browser:
    """execute(script, *arguments): the body of a function, whose promise is waited for."""

    def until(self, script, seconds=60, what=None):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.execute(script)
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f'{self.name}: waited {seconds} s for: {what or script}')

    def screenshot(self, path):
        with open(path, 'wb') as f:
            f.write(base64.b64decode(self.take_screenshot()))


class Chromium(Browser):
    name = 'Chromium'

    @staticmethod
    def missing():
        return [p for p in ('chromium', 'chromedriver') if not shutil.which(p)]

    def __init__(self, width=1280, height=900, mobile=None):
        port = free_port()
        self.url = f'http://127.0.0.1:{port}'
        self.driver = subprocess.Popen(['chromedriver', f'--port={port}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        arguments = ['--headless=new', f'--window-size={width},{height}', '--disable-gpu', '--hide-scrollbars']
        if os.geteuid() == 0:
            arguments.append('--no-sandbox')
        options = {'args': arguments, 'binary': shutil.which('chromium')}
        if mobile:
            options['mobileEmulation'] = {'deviceMetrics': {'width': mobile[0], 'height': mobile[1], 'pixelRatio': 2, 'touch': True}}
        capabilities = {'alwaysMatch': {'browserName': 'chrome', 'goog:chromeOptions': options, 'goog:loggingPrefs': {'browser': 'ALL'},
                                        'timeouts': {'script': 120000}}}
        for _ in range(100):
            try:
                made = self.call('POST', '/session', {'capabilities': capabilities})
                break
            except (ConnectionError, urllib.error.URLError) as e:
                if isinstance(e, urllib.error.HTTPError):
                    raise
                time.sleep(0.1)
        else:
            raise AssertionError('chromedriver does not answer')
        self.session = '/session/' + made['sessionId']
        self.version = made['capabilities']['browserVersion']

    def call(self, method, path, body=None):
        data = None if method == 'GET' else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.url + path, data, {'Content-Type': 'application/json'}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=150) as answer:
                return json.load(answer)['value']
        except urllib.error.HTTPError as e:
            raise AssertionError(f"{path}: {json.load(e)['value']['message']}") from None

    def execute(self, script, *arguments):
        return self.call('POST', self.session + '/execute/sync', {'script': script, 'args': arguments})

    def open(self, url):
        self.call('POST', self.session + '/url', {'url': url})

    def reload(self):
        self.call('POST', self.session + '/refresh')

    def perform(self, actions):
        self.call('POST', self.session + '/actions', {'actions': actions})

    def take_screenshot(self):
        return self.call('GET', self.session + '/screenshot')

    def devtools(self, command, parameters):
        return self.call('POST', self.session + '/goog/cdp/execute', {'cmd': command, 'params': parameters})

    def console(self):
        """What was logged since the last call, but for information."""
        log = self.call('POST', self.session + '/se/log', {'type': 'browser'})
        return [entry['message'] for entry in log if entry['level'] in ('SEVERE', 'WARNING')]

    def close(self):
        try:
            self.call('DELETE', self.session)
        finally:
            self.driver.terminate()
            self.driver.wait()


class Firefox(Browser):
    name = 'Firefox'

    @staticmethod
    def missing():
        return [] if shutil.which('firefox-esr') or shutil.which('firefox') else ['firefox-esr']

    def __init__(self, width=1280, height=900):
        port = free_port()
        self.profile = tempfile.mkdtemp()
        with open(os.path.join(self.profile, 'user.js'), 'w') as f:
            f.write(f'user_pref("marionette.port", {port});\nuser_pref("datareporting.policy.dataSubmissionEnabled", false);\n'
                    'user_pref("browser.shell.checkDefaultBrowser", false);\nuser_pref("app.update.enabled", false);\n')
        binary = shutil.which('firefox-esr') or shutil.which('firefox')
        environment = {**os.environ, 'HOME': self.profile, 'MOZ_DISABLE_AUTO_SAFE_MODE': '1'}
        self.process = subprocess.Popen([binary, '--headless', '--marionette', '--no-remote', '--profile', self.profile, '--width', str(width),
                                         '--height', str(height)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        for _ in range(600):
            try:
                self.socket = socket.create_connection(('127.0.0.1', port), timeout=150)
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise AssertionError('Firefox does not answer')
        self.buffer = b''
        self.number = 0
        self.read()  # who it is
        made = self.call('WebDriver:NewSession', {'capabilities': {'alwaysMatch': {'timeouts': {'script': 120000}}}})
        self.version = made['capabilities']['browserVersion']

    def read(self):
        while b':' not in self.buffer:
            self.more()
        length, self.buffer = self.buffer.split(b':', 1)
        while len(self.buffer) < int(length):
            self.more()
        message, self.buffer = self.buffer[:int(length)], self.buffer[int(length):]
        return json.loads(message)

    def more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise AssertionError('Firefox ended')
        self.buffer += data

    def call(self, command, parameters=None):
        self.number += 1
        message = json.dumps([0, self.number, command, parameters or {}]).encode()
        self.socket.sendall(str(len(message)).encode() + b':' + message)
        _, _, error, value = self.read()
        if error:
            raise AssertionError(f"{command}: {error['message']}")
        return value

    def execute(self, script, *arguments):
        return self.call('WebDriver:ExecuteScript', {'script': script, 'args': list(arguments)})['value']

    def open(self, url):
        self.call('WebDriver:Navigate', {'url': url})

    def reload(self):
        self.call('WebDriver:Refresh')

    def perform(self, actions):
        self.call('WebDriver:PerformActions', {'actions': actions})

    def take_screenshot(self):
        return self.call('WebDriver:TakeScreenshot', {'full': False})['value']

    def console(self):
        return []

    def close(self):
        try:
            self.call('Marionette:Quit', {'flags': ['eForceQuit']})
            self.process.wait(30)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)
