# shellcheck shell=bash
# Shared by scripts/test and scripts/lib.sh: takes out of the environment what it says of stores. A server under test would go to
# the caller's store, and write there.

for variable in $(compgen -e AWS_) $(compgen -e S3_) $(compgen -e GCS_) $(compgen -e GCE_) $(compgen -e GOOGLE_) $(compgen -e AZURE_) \
  $(compgen -e STORAGE_) $(compgen -e LOCAL_STORAGE_) $(compgen -e CHRONIK_STORAGE_) $(compgen -e CHRONIK_RESTORE_) \
  $(compgen -e CHRONIK_BACKUP_) CHRONIK_ENABLE_BACKUP CHRONIK_UPLOAD_INTERVAL; do
  unset "$variable"
done
