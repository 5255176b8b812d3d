"""Signs requests to stores, with nothing but the standard library: S3's way (SigV4) and Azure's (SharedKey)."""

import base64
import datetime
import hashlib
import hmac
import urllib.parse

AZURE_VERSION = "2023-11-03"


def utc(form):
    return datetime.datetime.now(datetime.timezone.utc).strftime(form)


def query(words):
    return "&".join(f"{name}={urllib.parse.quote(words[name], safe='')}" for name in sorted(words))


def sigv4(method, url, region_and_service, key, secret, headers, body=b""):
    """The headers with those that sign a request to this URL, whose query is as `query` makes it."""
    parts, now, digest = urllib.parse.urlsplit(url), utc("%Y%m%dT%H%M%SZ"), hashlib.sha256(body).hexdigest()
    headers = {**headers, "host": parts.netloc, "x-amz-date": now}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"{method}\n{parts.path}\n{parts.query}\n{lines}\n{names}\n{digest}"
    scope = f"{now[:8]}/{region_and_service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    mac = f"AWS4{secret}".encode()
    for part in [*scope.split("/"), text]:
        mac = hmac.new(mac, part.encode(), hashlib.sha256).digest()
    value = f"AWS4-HMAC-SHA256 Credential={key}/{scope},SignedHeaders={names},Signature={mac.hex()}"
    return {**headers, "Authorization": value}


def azure_mac(key, text):
    mac = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()


def shared_key(method, url, account, key, container, words):
    """The headers that sign a request without a body to a container, with these words in its query."""
    date = utc("%a, %d %b %Y %H:%M:%S GMT")
    path = urllib.parse.urlsplit(url).path.rstrip("/")
    text = f"{method}" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{AZURE_VERSION}\n/{account}{path}/{container}"
    text += "".join(f"\n{name}:{words[name]}" for name in sorted(words))
    return {"x-ms-date": date, "x-ms-version": AZURE_VERSION, "Authorization": f"SharedKey {account}:{azure_mac(key, text)}"}
