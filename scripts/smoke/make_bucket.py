"""Makes an empty bucket or container on a server under test, with nothing but the standard library.

    make_bucket.py s3 URL BUCKET                        for servers that check no signatures
    make_bucket.py gcs URL BUCKET
    make_bucket.py azure URL ACCOUNT KEY CONTAINER      signs with the account's key
    make_bucket.py sas ACCOUNT KEY CONTAINER            prints a shared access signature for the container
    make_bucket.py sts URL KEY SECRET                   prints variables with temporary keys of S3, and their token
"""

import base64
import datetime
import hashlib
import hmac
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

VERSION = "2023-11-03"


def call(method, url, headers, body=b""):
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        if error.code == 409:
            return 409
        sys.exit(f"make_bucket: {method} {url} was answered with {error.code}: {error.read()[:300]!r}")


def sign(key, text):
    mac = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()


def azure(url, account, key, container):
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    path = urllib.parse.urlparse(url).path.rstrip("/")
    text = (
        "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{VERSION}\n"
        f"/{account}{path}/{container}\nrestype:container"
    )
    headers = {
        "x-ms-date": date,
        "x-ms-version": VERSION,
        "Authorization": f"SharedKey {account}:{sign(key, text)}",
        "Content-Length": "0",
        "Content-Type": "",
    }
    call("PUT", f"{url}/{container}?restype=container", headers)


def sas(account, key, container):
    expiry = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=2)
    se = expiry.strftime("%Y-%m-%dT%H:%M:%SZ")
    sp = "rcwdl"
    fields = [sp, "", se, f"/blob/{account}/{container}", "", "", "", VERSION, "c", "", "", "", "", "", "", ""]
    signature = sign(key, "\n".join(fields))
    print(urllib.parse.urlencode({"sp": sp, "se": se, "sv": VERSION, "sr": "c", "sig": signature}))


def sts(url, key, secret):
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    host = urllib.parse.urlparse(url).netloc
    body = b"Action=AssumeRole&Version=2011-06-15&DurationSeconds=3600"
    digest = hashlib.sha256(body).hexdigest()
    headers = {"content-type": "application/x-www-form-urlencoded", "host": host, "x-amz-date": now}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"POST\n/\n\n{lines}\n{names}\n{digest}"
    scope = f"{now[:8]}/us-east-1/sts/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    mac = f"AWS4{secret}".encode()
    for part in [*scope.split("/"), text]:
        mac = hmac.new(mac, part.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={key}/{scope},SignedHeaders={names},Signature={mac.hex()}"
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
