//! Values that the chart refuses: those that are misspelt, and those that cannot work. Each refusal says where and what.

use crate::helm::render;

#[test]
fn a_bad_value_is_refused_with_its_place() {
    for (values, expected) in [
        // Misspelt.
        ("speakr.enabled=false", "additional properties 'speakr' not allowed"),
        ("speaker.tolerateMasters=true", "at '/speaker': additional properties 'tolerateMasters' not allowed"),
        ("speaker.memberlist.mlBindport=1", "at '/speaker/memberlist': additional properties 'mlBindport' not allowed"),
        ("controller.image.Tag=x", "at '/controller/image': additional properties 'Tag' not allowed"),
        ("prometheus.podMonitor.interval=30", "at '/prometheus/podMonitor/interval': got number"),
        ("prometheus.podMonitor.interval=soon", "at '/prometheus/podMonitor/interval': 'soon' does not match pattern"),
        ("controller.logLevel=loud", "at '/controller/logLevel': value must be one of 'all', 'debug'"),
        ("controller.webhookMode=on", "at '/controller/webhookMode': value must be one of 'enabled', 'disabled'"),
        ("tls.minVersion=1.3", "at '/tls/minVersion': value must be one of 'VersionTLS12', 'VersionTLS13'"),
        ("speaker.updateStrategy.type=Recreate", "at '/speaker/updateStrategy/type': value must be one of"),
        ("crds.validationFailurePolicy=Warn", "at '/crds/validationFailurePolicy': value must be one of"),
        (
            "speaker.memberlist.mlBindPort=70000",
            "at '/speaker/memberlist/mlBindPort': maximum: got 70,000, want 65,535",
        ),
        ("speaker.bgpDebounceTimeout=0", "at '/speaker/bgpDebounceTimeout': minimum: got 0, want 1"),
        ("controller.image.repository=", "at '/controller/image/repository': minLength: got 0, want 1"),
        ("controller.podAnnotations.a=1", "at '/controller/podAnnotations/a': got number, want string"),
        ("naming=short", "at '/naming': value must be one of 'chart', 'plain'"),
        // Right by themselves, but not together or not any more.
        ("configInline.address-pools=x", "configInline: MetalLB is configured by objects of metallb.io. hint: "),
        ("prometheus.speakerMetricsTLSSecret=x", "hint: set tls.speakerMetricsTLSSecret"),
        ("prometheus.podMonitor.enabled=true,prometheus.serviceMonitor.enabled=true", "hint: enable one of them"),
        ("prometheus.podMonitor.enabled=true", "prometheus.serviceAccount must be set"),
        ("prometheus.serviceMonitor.enabled=true,prometheus.serviceAccount=x", "prometheus.namespace must be set"),
        ("prometheus.serviceMonitor.enabled=true,prometheus.metricsPort=0", "prometheus.metricsPort is 0"),
        ("speaker.nodeSelector.a=b,speaker.memberlist.enabled=false", "hint: enable memberlist"),
        ("speaker.livenessProbe.port=18000", "speaker.livenessProbe.port and speaker.readinessProbe.port differ"),
    ] {
        let refusal = render("metallb", &["--set", values]).expect_err(values);
        assert!(refusal.contains(expected), "{values}: {refusal}");
    }
}

/// What a chart around this one adds to the values is no mistake.
#[test]
fn values_of_an_outer_chart_are_taken() {
    render("metallb", &["--set", "global.region=x,enabled=true"]).unwrap();
}
