"""Prints what lies in a store, a line "BYTES KEY" per object, with nothing but the standard library.

    list_store.py URL

URL is what STORE_URL is to the smoke scripts: file://, s3://, gs:// or azure://, with a folder. Keys and addresses come from the
variables that chronik-server takes them from; of Azure's keys the account's.
"""

import base64
import datetime
import hashlib
import hmac
import json
import os
import sys
import urllib.parse
import urllib.request
import xml.etree.ElementTree
from pathlib import Path

PAGE_MAX = 1000
AZURE_VERSION = "2023-11-03"


def get(url, headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return answer.read()


def query(words):
    return "&".join(f"{name}={urllib.parse.quote(words[name], safe='')}" for name in sorted(words))


def elements(text, item, name, size):
    """Name and size of each item, whatever the namespace."""
    root = xml.etree.ElementTree.fromstring(text.decode("utf-8-sig"))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    for found in root.iter(item):
        yield found.findtext(name), int(found.findtext(size))


def s3(bucket, prefix):
    endpoint, key = os.environ["S3_ENDPOINT"], os.environ["AWS_ACCESS_KEY_ID"]
    host = urllib.parse.urlparse(endpoint).netloc
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    asked = query({"list-type": "2", "max-keys": str(PAGE_MAX), "prefix": prefix})
    nothing = hashlib.sha256(b"").hexdigest()
    headers = {"host": host, "x-amz-content-sha256": nothing, "x-amz-date": now}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"GET\n/{bucket}\n{asked}\n{lines}\n{names}\n{nothing}"
    scope = f"{now[:8]}/{os.environ.get('S3_REGION', 'us-east-1')}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    mac = f"AWS4{os.environ['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in [*scope.split("/"), text]:
        mac = hmac.new(mac, part.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={key}/{scope},SignedHeaders={names},Signature={mac.hex()}"
    return elements(get(f"{endpoint}/{bucket}?{asked}", headers), "Contents", "Key", "Size")


def gs(bucket, prefix):
    asked = query({"prefix": prefix, "maxResults": str(PAGE_MAX)})
    said = json.loads(get(f"http://{os.environ['STORAGE_EMULATOR_HOST']}/storage/v1/b/{bucket}/o?{asked}", {}))
    return ((item["name"], int(item["size"])) for item in said.get("items", ()))


def azure(container, prefix):
    account, url = os.environ["AZURE_STORAGE_ACCOUNT"], os.environ["AZURE_STORAGE_ENDPOINT"]
    words = {"comp": "list", "maxresults": str(PAGE_MAX), "prefix": prefix, "restype": "container"}
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    path = urllib.parse.urlparse(url).path.rstrip("/")
    text = "GET" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{AZURE_VERSION}\n/{account}{path}/{container}"
    text += "".join(f"\n{name}:{words[name]}" for name in sorted(words))
    key = base64.b64decode(os.environ["AZURE_STORAGE_KEY"])
    signature = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
    headers = {"x-ms-date": date, "x-ms-version": AZURE_VERSION, "Authorization": f"SharedKey {account}:{signature}"}
    return elements(get(f"{url}/{container}?{query(words)}", headers), "Blob", "Name", "Properties/Content-Length")


def local(folder, _):
    for path in Path(folder).rglob("*"):
        if path.is_file():
            yield str(path.relative_to(folder)), path.stat().st_size


def main(url):
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/") if scheme != "file" else (rest, "", "")
    found = list({"file": local, "s3": s3, "gs": gs, "azure": azure}[scheme](bucket, f"{prefix.rstrip('/')}/"))
    if len(found) == PAGE_MAX and scheme != "file":
        sys.exit(f"list_store: there is more in {url} than one page")
    for name, size in found:
        print(size, name)


main(*sys.argv[1:])
