defmodule Cryptoki.Transfer do
  alias Cryptoki.{CallOptions, Error, Key}
  alias Cryptoki.Transfer.{File, Travel}

  @moduledoc """
  A key from one token to another, as a text that says what it is and that nobody can change.

      {:ok, text} = Cryptoki.Transfer.export(MyApp.Old, [label: "invoice", class: :private_key], [label: "kek"])
      {:ok, key} = Cryptoki.Transfer.import(MyApp.New, text, [label: "kek"], template: [token: true])

  Both tokens have one AES key, the **wrapping key**, that may wrap here and unwrap there
  (`Cryptoki.import_key/4` brings it to both, or a transfer under another one). The key leaves its token wrapped by it
  (RFC 5649); where that wraps secret keys of whole blocks only (RFC 3394), by a transport key of 32 bytes that is made for this text and
  wrapped so. The text has its label, id, what it may do and how it is kept, its public key or check
  value, and a MAC over all of it, by a key that is made for this text in the token and wrapped likewise. So whoever
  can wrap with the wrapping key can make such a text, and nobody else, as long as it wraps no secret of 193 to 200 bytes that somebody knows: keep
  it for this. An RSA key cannot be the wrapping key: everybody
  has its public half.

  What the tokens do not allow is not done: a key has to be `extractable: true`, and one with `wrap_with_trusted:
  true` has to be wrapped by a key that the security officer has called `trusted: true`. RSA, elliptic curves, Ed25519,
  Ed448, X25519 and X448; AES and the other secret keys; ML-DSA, ML-KEM and SLH-DSA where a token wraps and unwraps them
  (Kryoptic 1.5.4 does not).

  A key that is limited in a way that does not travel stays where it is: `destroyable: false`, or a template for what it
  wraps, unwraps or derives. SoftHSM 2.6.1 unwraps no key with `modifiable: false`; `template: [modifiable: true]` has it without that limit.

  ## The text

      cryptoki key transfer 1
      {"attributes":{...},"check_value":"66E94B","class":"secret_key","key_type":"aes","mac_key":"...","public_key":null,"wrapped_key":"..."}
      47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=

  Three lines, each with a line end (LF). The second is JSON with these members and no other, `transport_key` only where there is one:

  | member | |
  |---|---|
  | `class`, `key_type` | as PKCS #11 calls them, in lower case and without prefix |
  | `attributes` | what was read of `label` (a string), `id` (hexadecimal), `start_date`, `end_date` (ISO 8601), `allowed_mechanisms` (numbers), `sign`, `verify`, `sign_recover`, `encrypt`, `decrypt`, `wrap`, `unwrap`, `derive`, `private`, `sensitive`, `extractable`, `wrap_with_trusted`, `always_authenticate`, `decapsulate` (true or false); `modifiable`, `copyable` (false) |
  | `public_key` | of a private key: its `SubjectPublicKeyInfo`, base64; else null |
  | `check_value` | of a secret key, as `Cryptoki.check_value/3` has it, hexadecimal; null where the token has none |
  | `wrapped_key` | the key, a private one as PKCS #8, wrapped by the wrapping key (RFC 5649), base64. With a `transport_key`: an IV of 16 bytes, and the key encrypted by the transport key (AES-256 in CBC mode, padding of PKCS #7: `CKM_AES_CBC_PAD`) |
  | `transport_key` | 32 bytes of an AES key, wrapped by the wrapping key (RFC 3394): 40, base64 |
  | `mac_key` | 200 bytes, wrapped as the key is, or as the transport key: 208, which no other key has |

  The third line is HMAC-SHA256 over the first two with their line ends, with `mac_key` as its key, base64. The guide
  [Keys in and out](guides/keys_in_and_out.md) has vectors, and opens one with OpenSSL alone.
  """

  import Cryptoki.Bang, only: [bang: 1]

  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword | map
  @type error :: {:error, Error.t()}

  @call [:timeout, :metadata]

  @doc """
  The text of a key, for a token that has the wrapping key. `timeout:` and `metadata:` are those of each call.

  Errors: `:key_unextractable`, `:key_not_wrappable`, `:wrapping_key_type_inconsistent` and what else C_WrapKey answers;
  `:unsupported` for a type of key, or a limit of one, that does not travel, a private key whose public key cannot be proven
  (`Cryptoki.public_key/3`), a wrapping key that is no AES key, a token without HMAC-SHA256; `:mechanism_invalid` for one with neither
  RFC 5649 nor, for a transport key, RFC 3394 and AES-CBC with padding. A wrapping key with a `wrap_template` says itself what it wraps, and gets no
  transport key to wrap. PKCS #11 v3.2, section 5.18 (C_WrapKey).

      iex> {:ok, kek} = Cryptoki.generate_key(MyApp.HSM, :aes_key_gen, value_len: 32, wrap: true, unwrap: true)
      iex> {:ok, key} = Cryptoki.generate_key(MyApp.HSM, :aes_key_gen, value_len: 32, label: "moving", extractable: true)
      iex> {:ok, text} = Cryptoki.Transfer.export(MyApp.HSM, key, kek)
      iex> {:ok, again} = Cryptoki.Transfer.import(MyApp.HSM, text, kek)
      iex> Cryptoki.check_value(MyApp.HSM, again) == Cryptoki.check_value(MyApp.HSM, key)
      true
  """
  @spec export(hsm, key, wrapping_key :: key, opts) :: {:ok, String.t()} | error
  def export(hsm, key, wrapping_key, opts \\ []) do
    {[], call} = CallOptions.split!(opts, [], @call)
    Travel.out(hsm, key, wrapping_key, call)
  end

  bang(export(hsm, key, wrapping_key :: key, opts) :: String.t())

  @doc """
  The key of such a text on this token. The MAC is verified first, by the token. `template:` has attributes that win over those of
  the text, which wins over none: `token: true` stores the key, and its public key beside it unless
  `public_key: false` says not to. The key is proven before `{:ok, key}`, as `Cryptoki.import_key/4` proves one: a private key by
  its public one, a secret one by its check value, if the text has one. After a failure nothing is left.

  Errors: `:invalid_argument` for what is no such text; `:signature_invalid` when somebody has changed it;
  `:wrapped_key_invalid`, or what else the token says of a text for another wrapping key; `:module_misbehaved` when the key is another one.
  PKCS #11 v3.2, section 5.18 (C_UnwrapKey).

      iex> {:ok, kek} = Cryptoki.generate_key(MyApp.HSM, :aes_key_gen, value_len: 32, wrap: true, unwrap: true)
      iex> {:ok, {_public, key}} = Cryptoki.generate_key_pair(MyApp.HSM, :ec_key_pair_gen, label: "moving", curve: :secp256r1,
      ...>   private: [extractable: true])
      iex> text = Cryptoki.Transfer.export!(MyApp.HSM, key, kek)
      iex> {:ok, moved} = Cryptoki.Transfer.import(MyApp.HSM, text, kek, template: [label: "moved"], public_key: false)
      iex> {moved.label, Cryptoki.attributes!(MyApp.HSM, moved, [:sensitive])}
      {"moved", %{sensitive: true}}
  """
  @spec import(hsm, String.t(), unwrapping_key :: key, opts) :: {:ok, Key.t()} | error
  def import(hsm, text, unwrapping_key, opts \\ []) do
    {own, call} = CallOptions.split!(opts, [:template, :public_key], @call)
    wished = Travel.wished!(own)
    with {:ok, read} <- File.read(text), do: Travel.into(hsm, read, unwrapping_key, wished, call)
  end

  bang(import(hsm, text :: String.t(), unwrapping_key :: key, opts) :: Key.t())

  @doc """
  The same key for another wrapping key, on a token that has both: for a rotation, or on the way to a third token. The
  key is in this token for the while of it, as an object of the session.

  Errors: those of `import/4` and `export/4`.

      iex> [old, new] = for _ <- 1..2, do: Cryptoki.generate_key!(MyApp.HSM, :aes_key_gen, value_len: 32, wrap: true, unwrap: true)
      iex> key = Cryptoki.generate_key!(MyApp.HSM, :aes_key_gen, value_len: 16, extractable: true)
      iex> text = Cryptoki.Transfer.export!(MyApp.HSM, key, old)
      iex> {:ok, again} = Cryptoki.Transfer.rewrap(MyApp.HSM, text, old, new)
      iex> {:error, error} = Cryptoki.Transfer.import(MyApp.HSM, again, old)
      iex> error.function
      :C_UnwrapKey
  """
  @spec rewrap(hsm, String.t(), unwrapping_key :: key, wrapping_key :: key, opts) ::
          {:ok, String.t()} | error
  def rewrap(hsm, text, unwrapping_key, wrapping_key, opts \\ []) do
    {[], call} = CallOptions.split!(opts, [], @call)

    with {:ok, read} <- File.read(text),
         do: Travel.through(hsm, read, unwrapping_key, wrapping_key, call)
  end

  bang(
    rewrap(hsm, text :: String.t(), unwrapping_key :: key, wrapping_key :: key, opts) ::
      String.t()
  )

  @doc """
  What a text says of its key, without a token: `:class`, `:key_type`, `:attributes`, `:check_value`, and
  `:public_key` as DER. Nobody has verified that it is so; `import/4` does.

  Errors: `:invalid_argument`.

      iex> {:error, error} = Cryptoki.Transfer.describe("cryptoki key transfer 1")
      iex> error.reason
      :invalid_argument
  """
  @spec describe(String.t()) :: {:ok, map} | error
  def describe(text) do
    with {:ok, {file, _body, _mac}} <- File.read(text) do
      {:ok,
       file
       |> Map.drop([:wrapped_key, :transport_key, :mac_key])
       |> Map.update!(:attributes, &Map.new/1)}
    end
  end

  bang(describe(text :: String.t()) :: map)
end
