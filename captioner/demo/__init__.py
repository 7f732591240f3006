"""The demo page, `python -m captioner demo`: caption photos in the browser. docs/demo.md describes how to use it.

answers    captions of a photo as JSON values
app        the ASGI application: routes and error responses
uploads    reads an uploaded photo, up to a size limit
guard      host check and security headers
examples   synthetic example images
server     binds a port and serves the application
page/      HTML, CSS and JavaScript, without any dependency
web/       the page without a server, `python -m captioner export --web` (docs/web.md), which shares files of page/
"""
