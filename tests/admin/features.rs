//! Owns the tests of features: what ApiVersions tells of them, and UpdateFeatures.

use chronik::broker::features::METADATA_VERSION;

use super::*;

/// A feature whose level means nothing to one node, so that it can be moved about.
const ELR: &str = "eligible.leader.replicas.version";

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

fn update(feature: &str, max_version_level: i16, upgrade_type: i8) -> FeatureUpdateKey<'_> {
    FeatureUpdateKey { feature, max_version_level, allow_downgrade: upgrade_type != UPGRADE, upgrade_type }
}

fn ask(
    h: &mut Harness,
    version: i16,
    feature_updates: Vec<FeatureUpdateKey<'_>>,
    validate_only: bool,
) -> (ErrorCode, String, usize) {
    let answer = h.call(version, &UpdateFeaturesRequest { timeout_ms: 1000, feature_updates, validate_only });
    let response: UpdateFeaturesResponse<'_> = answer.decode();
    assert!(response.results.iter().all(|result| result.error_code.is_none()));
    (response.error_code, response.error_message.unwrap_or("").to_owned(), response.results.len())
}

/// The level that ApiVersions tells, and the epoch.
fn told(h: &mut Harness, feature: &str) -> (Option<i16>, i64) {
    let answer = api_versions(h, 4);
    let response: ApiVersionsResponse<'_> = answer.decode();
    let level = response.finalized_features.iter().find(|f| f.name == feature).map(|f| f.max_version_level);
    (level, response.finalized_features_epoch)
}

fn api_versions(h: &mut Harness, version: i16) -> Answer {
    let request = ApiVersionsRequest { client_software_name: "x", client_software_version: "1", ..Default::default() };
    h.call(version, &request)
}

#[test]
fn levels_from_0_are_told_from_version_4_on() {
    let mut h = Harness::new();
    for version in 3..=5 {
        let answer = api_versions(&mut h, version);
        let response: ApiVersionsResponse<'_> = answer.decode();
        let supported: Vec<_> = response.supported_features.iter().map(|f| f.name).collect();
        assert!(supported.contains(&METADATA_VERSION));
        assert_eq!(supported.contains(&ELR), version >= 4);
        assert!(response.finalized_features.iter().any(|f| f.name == ELR && f.max_version_level == 1));
        assert!(response.finalized_features.iter().all(|f| f.max_version_level > 0));
        assert!(response.finalized_features_epoch >= 0 && !response.zk_migration_ready);
    }
}

#[test]
fn a_feature_is_told_only_if_its_api_is_served() {
    let mut h = Harness::new();
    let answer = api_versions(&mut h, 4);
    let response: ApiVersionsResponse<'_> = answer.decode();
    let pairs = [("group.version", 68), ("transaction.version", 26), ("share.version", 76), ("streams.version", 88)];
    for (feature, key) in pairs {
        let told = response.supported_features.iter().any(|f| f.name == feature);
        assert_eq!(told, response.api_keys.iter().any(|api| api.api_key == key), "{feature}");
        assert_eq!(h.broker.feature_level(feature) > 0, told, "{feature}");
    }
}

#[test]
fn a_changed_level_is_told_with_a_new_epoch_and_is_there_after_a_restart() {
    let mut h = Harness::new();
    let (level, epoch) = told(&mut h, ELR);
    assert_eq!(level, Some(1));
    for version in 0..=2 {
        let results = usize::from(version < 2);
        let down = vec![update(ELR, 0, SAFE_DOWNGRADE)];
        assert_eq!(ask(&mut h, version, down, false), (ErrorCode::NONE, String::new(), results));
        assert_eq!(told(&mut h, ELR).0, None);
        assert_eq!(h.broker.feature_level(ELR), 0);
        let up = vec![update(ELR, 1, UPGRADE)];
        assert_eq!(ask(&mut h, version, up, false), (ErrorCode::NONE, String::new(), results));
    }
    ask(&mut h, 1, vec![update(ELR, 0, UNSAFE_DOWNGRADE)], false);
    assert_eq!(told(&mut h, ELR), (None, epoch + 7));
    h.restart();
    assert_eq!(told(&mut h, ELR), (None, epoch + 7));
    h.checkpoint();
    assert_eq!(told(&mut h, ELR), (None, epoch + 7));
}

#[test]
fn what_is_only_checked_or_is_so_already_changes_nothing() {
    let mut h = Harness::new();
    let before = told(&mut h, ELR);
    assert_eq!(ask(&mut h, 1, vec![update(ELR, 0, SAFE_DOWNGRADE)], true).0, ErrorCode::NONE);
    assert_eq!(ask(&mut h, 1, vec![update(ELR, 1, UPGRADE)], false).0, ErrorCode::NONE);
    assert_eq!(ask(&mut h, 1, vec![], false).0, ErrorCode::NONE);
    assert_eq!(told(&mut h, ELR), before);
}

#[test]
fn a_change_that_is_not_allowed_refuses_all_with_kafkas_reason() {
    let mut h = Harness::new();
    let invalid =
        |level: i16, name: &str, why: &str| format!("Invalid update version {level} for feature {name}. {why}");
    let only = |versions: &str| format!("Local controller 1 only supports versions {versions}");
    let no_way =
        "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
                  downgrade.";
    let risky = "Refusing to perform the requested downgrade because it might delete metadata information.";
    let metadata = |why: &str| format!("Unsupported metadata.version downgrade from 30 to 29. {why}");
    let cases = [
        (update("nope", 1, UPGRADE), invalid(1, "nope", "Local controller 1 does not support this feature.")),
        (update(ELR, 2, UPGRADE), invalid(2, ELR, &only("0-1"))),
        (update(ELR, 0, UPGRADE), invalid(0, ELR, no_way)),
        (update(ELR, -1, SAFE_DOWNGRADE), invalid(-1, ELR, "A feature version cannot be less than 0.")),
        (update(ELR, 1, 0), invalid(1, ELR, "The controller does not support the given upgrade type.")),
        (update(METADATA_VERSION, 6, UNSAFE_DOWNGRADE), invalid(6, METADATA_VERSION, &only("7-30"))),
        (update(METADATA_VERSION, 29, SAFE_DOWNGRADE), metadata(risky)),
        (
            update(METADATA_VERSION, 29, UNSAFE_DOWNGRADE),
            metadata("Unsafe metadata downgrade is not supported in this version."),
        ),
    ];
    for (wanted, why) in cases {
        let all = vec![update(ELR, 0, SAFE_DOWNGRADE), wanted];
        let why = format!("The update failed for all features since the following feature had an error: {why}");
        assert_eq!(ask(&mut h, 1, all, false), (ErrorCode::INVALID_UPDATE_VERSION, why, 0));
        assert_eq!(told(&mut h, ELR).0, Some(1));
    }
    let newer = ask(&mut h, 1, vec![update(ELR, 0, SAFE_DOWNGRADE)], false);
    assert_eq!(newer.0, ErrorCode::NONE);
    let (_, why, _) = ask(&mut h, 1, vec![update(ELR, 1, SAFE_DOWNGRADE)], false);
    assert!(why.ends_with("Can't downgrade to a newer version."), "{why}");
}
