// Loads the files of the model and of the runtime: verified, with progress, and kept in the browser for the next time.

/** The cache of this folder and of this version of its files; the service worker uses the same. */
export function cacheName({ version }) {
  return `captioner ${new URL("./", location.href)} ${version}`;
}

/**
 * Map of file names to bytes, of files {path, bytes, sha256} of `site`. onProgress(loaded, total): in bytes.
 * Returns {files, offline}: offline is why they could not be kept, or null where they were. Throws an Error that says
 * what is wrong with which file.
 */
export async function loadFiles(site, onProgress) {
  const cache = await openCache(cacheName(site));
  const total = site.files.reduce((sum, { bytes }) => sum + bytes, 0);
  const loaded = new Map();
  const report = (path, bytes) => {
    loaded.set(path, bytes);
    onProgress([...loaded.values()].reduce((sum, part) => sum + part, 0), total);
  };
  let offline = cache ? null : "this address is not secure: use https, or localhost";
  const load = async (file) => {
    const kept = cache && (await cache.match(file.path));
    if (kept) {
      const content = new Uint8Array(await kept.arrayBuffer());
      if (!(await whatIsWrong(content, file))) {
        report(file.path, file.bytes);
        return [file.path, content];
      }
    }
    const progress = (bytes) => report(file.path, bytes);
    let content = await download(file, progress, "no-cache");
    let wrong = await whatIsWrong(content, file);
    if (wrong) {
      // A server that compares times takes a mended file of the same second for the one that the browser has.
      content = await download(file, progress, "reload");
      wrong = await whatIsWrong(content, file);
    }
    if (wrong) throw new Error(`${file.path} is not the file that was exported: ${wrong}. Copy the exported folder to the server again, then reload this page.`);
    try {
      const type = file.path.endsWith(".js") ? "text/javascript" : "application/octet-stream";
      await cache?.put(file.path, new Response(content, { headers: { "Content-Type": type } }));
    } catch (error) {
      offline = `the browser cannot store them (${error.name})`;
    }
    return [file.path, content];
  };
  const files = new Map(await Promise.all(site.files.map(load)));
  return { files, offline };
}

/** The cache, or null where the page may not have one. */
async function openCache(name) {
  return globalThis.caches ? caches.open(name) : null;
}

async function download({ path, bytes }, onProgress, cache) {
  let response;
  try {
    response = await fetch(path, { cache });
  } catch (error) {
    throw new Error(`${path} could not be loaded (${error.message}). Check the connection, then reload this page.`);
  }
  if (!response.ok) throw new Error(`${path} could not be loaded: the server answers with status ${response.status}. Copy the whole exported folder to the server.`);
  const parts = [];
  let received = 0;
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      received += value.length;
      onProgress(Math.min(received, bytes));
    }
  } catch (error) {
    throw new Error(`${path} could not be loaded: the connection ended after ${received} of ${bytes} bytes. Reload this page.`);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** How a file differs from the one that was exported; null where it does not. Without https only its size is known. */
async function whatIsWrong(content, { bytes, sha256 }) {
  if (content.length !== bytes) return `it has ${content.length} bytes instead of ${bytes}`;
  if (!globalThis.crypto?.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const found = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return found === sha256 ? null : "its checksum (SHA-256) differs";
}
