// SPDX-License-Identifier: Apache-2.0
// Keeps what was loaded, so that the page works without a network, and gives pages of plain file servers the headers that shared
// memory, and with it threads, asks for. The build puts a number of all files in place of VERSION.
'use strict';

const cacheName = 'mobilediffusion-VERSION';
const shell = ['./', 'style.css', 'main.js', 'artist.js', 'words.js', 'brush.js', 'dial.js', 'png.js', 'inside.js', 'worker.js', 'icon.svg',
               'page.webmanifest'];

self.addEventListener('install', (event) => {
  event.waitUntil(caches.open(cacheName).then((cache) => cache.addAll(shell.map((url) => new Request(url, { cache: 'no-cache' }))))
    .then(() => self.skipWaiting()));
});
self.addEventListener('activate', (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys())
      if (name.startsWith('mobilediffusion-') && name !== cacheName) await caches.delete(name);
    await self.clients.claim();
  })());
});

function isolated(response) {
  if (response.type === 'opaque' || response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set('Cross-Origin-Opener-Policy', 'same-origin');
  headers.set('Cross-Origin-Embedder-Policy', 'require-corp');
  headers.set('Cross-Origin-Resource-Policy', 'same-origin');
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

self.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== 'GET' || url.origin !== self.location.origin) return;
  event.respondWith((async () => {
    const cache = await caches.open(cacheName);
    const known = await cache.match(event.request, { ignoreSearch: true });
    if (known) return isolated(known);
    const response = await fetch(event.request);
    if (response.ok && response.status === 200) event.waitUntil(cache.put(event.request, response.clone()).catch(() => {}));
    return isolated(response);
  })());
});
