//! Owns `message!`, in which every message of the protocol is described once for decoding, encoding and defaults.

/// Describes requests, responses and the structs within them.
///
/// ```ignore
/// message! {
///     /// What it is for.
///     request FooRequest<'a> = FOO -> FooResponse {
///         name: &'a str [0..],                    // in every version
///         rack: Option<&'a str> [2..=3],          // nullable; None in other versions
///         topics: Option<Vec<FooTopic>> [0..] nullable [1..],
///         epoch: i32 [3..] = -1,                  // the default, where it isn't the type's own
///         node: i32 [4..] tag 0 = -1,             // a tagged field, left out when it holds its default
///     }
///     struct FooTopic { id: Uuid [0..] }
///     response FooResponse = FOO { error_code: ErrorCode [0..] }
/// }
/// ```
///
/// `FOO` is the row of the API table that says which versions there are. Tagged fields of a struct
/// stand in rising order of their tags. A `struct` takes version and flexibility from the message it is in.
macro_rules! message {
    () => {};

    ($(#[$meta:meta])* request $name:ident $(<$l:lifetime>)? = $api:ident -> $resp:ident $(<$rl:lifetime>)?
        { $($body:tt)* } $($rest:tt)*) => {
        message!(@define $(#[$meta])* $name $(<$l>)? { $($body)* });
        message!(@impl $name [$($l)?] { $($body)* });
        message!(@message $name [$($l)?] $api);
        message!(@request $name [$($l)?] $resp $(<$rl>)?);
        message! { $($rest)* }
    };
    ($(#[$meta:meta])* response $name:ident $(<$l:lifetime>)? = $api:ident { $($body:tt)* } $($rest:tt)*) => {
        message!(@define $(#[$meta])* $name $(<$l>)? { $($body)* });
        message!(@impl $name [$($l)?] { $($body)* });
        message!(@message $name [$($l)?] $api);
        message!(@response $name [$($l)?]);
        message! { $($rest)* }
    };
    ($(#[$meta:meta])* struct $name:ident $(<$l:lifetime>)? { $($body:tt)* } $($rest:tt)*) => {
        message!(@define $(#[$meta])* $name $(<$l>)? { $($body)* });
        message!(@impl $name [$($l)?] { $($body)* });
        message! { $($rest)* }
    };

    // The Rust struct and its defaults.
    (@define $(#[$meta:meta])* $name:ident $(<$l:lifetime>)? { $(
        $(#[$field_meta:meta])* $field:ident : $ty:ty [$versions:expr]
        $(nullable [$nullable:expr])? $(tag $tag:literal)? $(= $default:expr)?
    ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub struct $name $(<$l>)? { $( $(#[$field_meta])* pub $field: $ty, )* }

        impl $(<$l>)? Default for $name $(<$l>)? {
            #[inline]
            fn default() -> Self {
                Self { $( $field: message!(@default $ty $(, $default)?), )* }
            }
        }
    };
    (@default $ty:ty) => { <$ty as Default>::default() };
    (@default $ty:ty, $default:expr) => { $default };

    // The codec. A struct that borrows nothing can be read from any frame.
    (@impl $name:ident [] $body:tt) => { message!(@wire [$name] 'frame $name $body); };
    (@impl $name:ident [$l:lifetime] $body:tt) => { message!(@wire [$name] $l $name<$l> $body); };
    (@wire [$name:ident] $l:lifetime $target:ty { $(
        $(#[$field_meta:meta])* $field:ident : $ty:ty [$versions:expr]
        $(nullable [$nullable:expr])? $(tag $tag:literal)? $(= $default:expr)?
    ),* $(,)? }) => {
        impl<$l> $crate::wire::Wire<$l> for $target {
            const TYPE: $crate::wire::schema::Type = $crate::wire::schema::Type::Struct(&$crate::wire::schema::Struct {
                name: stringify!($name),
                fields: &[ $( $crate::wire::schema::Field {
                    name: stringify!($field),
                    kind: <$ty as $crate::wire::Wire<$l>>::TYPE,
                    versions: stringify!($versions),
                    nullable: message!(@option $(stringify!($nullable))?),
                    tag: message!(@option $($tag)?),
                    default: || format!("{:?}", <$target>::default().$field),
                }, )* ],
            });

            #[inline]
            #[allow(unused_mut, unused_variables, clippy::match_single_binding)]
            fn read(r: &mut $crate::wire::Reader<$l>) -> Result<Self, $crate::wire::DecodeError> {
                let version = r.version();
                let mut value = Self { $(
                    $field: message!(@read r, version, $ty, [$versions] [$($nullable)?] [$($tag)?] [$($default)?]),
                )* };
                if r.flexible() {
                    for _ in 0..r.tag_count()? {
                        let (tag, mut content) = r.tag()?;
                        match tag {
                            $( $( $tag if ($versions).contains(&version) => {
                                value.$field = $crate::wire::Wire::read(&mut content)?;
                                r.end_tag(&content)?;
                            } )? )*
                            _ => {}
                        }
                    }
                }
                Ok(value)
            }

            #[inline]
            #[allow(unused_variables, unused_mut)]
            fn write(&self, w: &mut $crate::wire::Writer) {
                let version = w.version();
                $( message!(@write w, version, self.$field, [$versions] [$($nullable)?] [$($tag)?]); )*
                if w.flexible() {
                    let default = Self::default();
                    let mut tags = 0;
                    $( $( if ($versions).contains(&version) && self.$field != default.$field {
                        let _ = $tag;
                        tags += 1;
                    } )? )*
                    w.uvarint(tags);
                    $( $( if ($versions).contains(&version) && self.$field != default.$field {
                        w.tagged($tag, &self.$field);
                    } )? )*
                }
            }

            #[inline]
            #[allow(unused_variables, unused_mut)]
            fn min_size(version: i16, flexible: bool) -> usize {
                let mut size = usize::from(flexible);
                $( message!(@min_size size, version, flexible, $ty, [$versions] [$($tag)?]); )*
                size
            }
        }

        impl<$l> $crate::wire::Nullable<$l> for $target {
            fn read_nullable(r: &mut $crate::wire::Reader<$l>) -> Result<Option<Self>, $crate::wire::DecodeError> {
                if r.i8()? < 0 {
                    return Ok(None);
                }
                $crate::wire::Wire::read(r).map(Some)
            }

            fn write_nullable(value: Option<&Self>, w: &mut $crate::wire::Writer) {
                w.i8(if value.is_some() { 1 } else { -1 });
                if let Some(value) = value {
                    $crate::wire::Wire::write(value, w);
                }
            }

            fn write_empty(w: &mut $crate::wire::Writer) {
                $crate::wire::Wire::write(&Self::default(), w);
            }

            fn min_size_nullable(_: bool) -> usize {
                1
            }
        }
    };
    (@option) => { None };
    (@option $value:expr) => { Some($value) };

    // One field: a tagged one is read and written after the others.
    (@read $r:ident, $version:ident, $ty:ty, [$versions:expr] [$($nullable:expr)?] [$tag:literal] [$($default:expr)?]) => {
        message!(@default $ty $(, $default)?)
    };
    (@read $r:ident, $version:ident, $ty:ty, [$versions:expr] [] [] [$($default:expr)?]) => {
        if ($versions).contains(&$version) {
            <$ty as $crate::wire::Wire>::read($r)?
        } else {
            message!(@default $ty $(, $default)?)
        }
    };
    (@read $r:ident, $version:ident, $ty:ty, [$versions:expr] [$nullable:expr] [] [$($default:expr)?]) => {
        if ($versions).contains(&$version) {
            $crate::wire::read_where_nullable($r, ($nullable).contains(&$version))?
        } else {
            message!(@default $ty $(, $default)?)
        }
    };
    (@write $w:ident, $version:ident, $value:expr, [$versions:expr] [$($nullable:expr)?] [$tag:literal]) => {};
    (@write $w:ident, $version:ident, $value:expr, [$versions:expr] [] []) => {
        if ($versions).contains(&$version) {
            $crate::wire::Wire::write(&$value, $w);
        }
    };
    (@write $w:ident, $version:ident, $value:expr, [$versions:expr] [$nullable:expr] []) => {
        if ($versions).contains(&$version) {
            $crate::wire::write_where_nullable(&$value, ($nullable).contains(&$version), $w);
        }
    };
    (@min_size $size:ident, $version:ident, $flexible:ident, $ty:ty, [$versions:expr] [$tag:literal]) => {};
    (@min_size $size:ident, $version:ident, $flexible:ident, $ty:ty, [$versions:expr] []) => {
        if ($versions).contains(&$version) {
            $size += <$ty as $crate::wire::Wire>::min_size($version, $flexible);
        }
    };

    // A message is a struct with a row in the API table.
    (@message $name:ident [] $api:ident) => { message!(@row 'frame [$name] $api); };
    (@message $name:ident [$l:lifetime] $api:ident) => { message!(@row $l [$name<$l>] $api); };
    (@row $l:lifetime [$target:ty] $api:ident) => {
        impl<$l> $crate::wire::Message<$l> for $target {
            const API: &'static $crate::wire::Api = $crate::wire::ApiKey::$api.described();
        }
    };
    (@request $name:ident [] $($resp:tt)*) => { message!(@answer 'frame [$name] $($resp)*); };
    (@request $name:ident [$l:lifetime] $($resp:tt)*) => { message!(@answer $l [$name<$l>] $($resp)*); };
    (@answer $l:lifetime [$target:ty] $resp:ident) => {
        impl<$l> $crate::wire::Request<$l> for $target {
            type Response<'r> = $resp;
        }
    };
    (@answer $l:lifetime [$target:ty] $resp:ident<$rl:lifetime>) => {
        impl<$l> $crate::wire::Request<$l> for $target {
            type Response<'r> = $resp<'r>;
        }
    };
    (@response $name:ident []) => { impl<'frame> $crate::wire::Response<'frame> for $name {} };
    (@response $name:ident [$l:lifetime]) => { impl<$l> $crate::wire::Response<$l> for $name<$l> {} };
}

pub(crate) use message;
