"""Makes an empty bucket or container on a server under test, with nothing but the standard library.

    make_bucket.py s3 URL BUCKET                        for servers that check no signatures
    make_bucket.py gcs URL BUCKET
    make_bucket.py azure URL ACCOUNT KEY CONTAINER      signs with the account's key
    make_bucket.py sas ACCOUNT KEY CONTAINER            prints a shared access signature for the container
    make_bucket.py sts URL KEY SECRET                   prints variables with temporary keys of S3, and their token
"""

import datetime
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

from signing import AZURE_VERSION, azure_mac, query, shared_key, sigv4


def call(method, url, headers, body=b""):
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        if error.code == 409:
            return 409
        sys.exit(f"make_bucket: {method} {url} was answered with {error.code}: {error.read()[:300]!r}")


def azure(url, account, key, container):
    words = {"restype": "container"}
    headers = {**shared_key("PUT", url, account, key, container, words), "Content-Length": "0", "Content-Type": ""}
    call("PUT", f"{url}/{container}?{query(words)}", headers)


def sas(account, key, container):
    expiry = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=2)
    se = expiry.strftime("%Y-%m-%dT%H:%M:%SZ")
    sp = "rcwdl"
    fields = [sp, "", se, f"/blob/{account}/{container}", "", "", "", AZURE_VERSION, "c", "", "", "", "", "", "", ""]
    signature = azure_mac(key, "\n".join(fields))
    print(urllib.parse.urlencode({"sp": sp, "se": se, "sv": AZURE_VERSION, "sr": "c", "sig": signature}))


def sts(url, key, secret):
    body = b"Action=AssumeRole&Version=2011-06-15&DurationSeconds=3600"
    content = {"content-type": "application/x-www-form-urlencoded"}
    headers = sigv4("POST", f"{url}/", "us-east-1/sts", key, secret, content, body)
    request = urllib.request.Request(url + "/", data=body, headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=20) as answer:
        said = answer.read().decode()
    for variable, element in [
        ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
        ("AWS_SESSION_TOKEN", "SessionToken"),
    ]:
        print(f"{variable}={said.split(f'<{element}>')[1].split('<')[0]}")


def main(kind, *rest):
    if kind == "s3":
        call("PUT", f"{rest[0]}/{rest[1]}", {"Content-Length": "0"})
    elif kind == "gcs":
        body = json.dumps({"name": rest[1]}).encode()
        call("POST", f"{rest[0]}/storage/v1/b?project=test", {"Content-Type": "application/json"}, body)
    elif kind == "azure":
        azure(*rest)
    elif kind == "sas":
        sas(*rest)
    elif kind == "sts":
        sts(*rest)
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
