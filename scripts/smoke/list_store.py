"""Prints what lies in a store, a line "BYTES KEY" per object, with nothing but the standard library.

    list_store.py URL

URL is what STORE_URL is to the smoke scripts: file://, s3://, gs:// or azure://, with a folder. Keys and addresses come from the
variables that chronik-server takes them from; of Azure's keys the account's.
"""

import json
import os
import sys
import urllib.request
import xml.etree.ElementTree
from pathlib import Path

from signing import query, shared_key, sigv4

PAGE_MAX = 1000
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def get(url, headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return answer.read()


def elements(text, item, name, size):
    """Name and size of each item, whatever the namespace."""
    root = xml.etree.ElementTree.fromstring(text.decode("utf-8-sig"))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    for found in root.iter(item):
        yield found.findtext(name), int(found.findtext(size))


def s3(bucket, prefix):
    asked = query({"list-type": "2", "max-keys": str(PAGE_MAX), "prefix": prefix})
    url = f"{os.environ['S3_ENDPOINT']}/{bucket}?{asked}"
    place = f"{os.environ.get('S3_REGION', 'us-east-1')}/s3"
    key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    headers = sigv4("GET", url, place, key, secret, {"x-amz-content-sha256": EMPTY_SHA256})
    return elements(get(url, headers), "Contents", "Key", "Size")


def gs(bucket, prefix):
    asked = query({"prefix": prefix, "maxResults": str(PAGE_MAX)})
    said = json.loads(get(f"http://{os.environ['STORAGE_EMULATOR_HOST']}/storage/v1/b/{bucket}/o?{asked}", {}))
    return ((item["name"], int(item["size"])) for item in said.get("items", ()))


def azure(container, prefix):
    account, url = os.environ["AZURE_STORAGE_ACCOUNT"], os.environ["AZURE_STORAGE_ENDPOINT"]
    words = {"comp": "list", "maxresults": str(PAGE_MAX), "prefix": prefix, "restype": "container"}
    headers = shared_key("GET", url, account, os.environ["AZURE_STORAGE_KEY"], container, words)
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
