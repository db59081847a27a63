defmodule Cryptoki.Test.Vectors.Known do
  @moduledoc false
  # Where a token is known to disagree with what was published: why, and how it is asked outside of the
  # library, with the C calls as test/support/vectors/plain.py makes them. Anything else is a failure.
  #
  # The numbers are those of the standard's header, written here once more: what is asked must not go
  # through the tables that are tested.

  alias Cryptoki.Attribute.Curve
  alias Cryptoki.Test.Token
  alias Cryptoki.Test.Vectors.{Plain, Probe, Ways}

  @type t :: %{
          token: atom | :any,
          family: String.t(),
          kinds: [atom],
          when: (map -> boolean),
          cause: String.t(),
          calls: (group :: map, test :: map -> [list]) | nil
        }

  @doc "The row that a disagreement belongs to, or nil."
  @spec find(atom, String.t(), map) :: t | nil
  def find(token, family, disagreement) do
    Enum.find(all(), fn row ->
      row.token in [token, :any] and row.family == family and disagreement.kind in row.kinds and
        row.when.(disagreement)
    end)
  end

  @doc "Every row."
  @spec all :: [t]
  def all do
    for {token, family, kinds, condition, cause, calls} <- soft_hsm() ++ kryoptic() do
      %{
        token: token,
        family: family,
        kinds: kinds,
        when: condition,
        cause: cause,
        calls: calls
      }
    end
  end

  ## Mechanisms, classes and types

  @rsa_pkcs 0x1
  @rsa_pkcs_oaep 0x9
  @rsa_pkcs_pss 0xD
  @ecdh1_derive 0x1050
  @aes_cbc_pad 0x1085
  @aes_gcm 0x1087
  @aes_key_wrap 0x2109
  @aes_key_wrap_pad 0x210A
  @chacha20_poly1305 0x4021

  @hashes %{
    "SHA-1" => 0x220,
    "SHA-224" => 0x255,
    "SHA-256" => 0x250,
    "SHA-384" => 0x260,
    "SHA-512" => 0x270
  }
  @mgfs %{"SHA-1" => 1, "SHA-224" => 5, "SHA-256" => 2, "SHA-384" => 3, "SHA-512" => 4}
  @hmacs %{
    "hmac_sha1" => 0x221,
    "hmac_sha224" => 0x256,
    "hmac_sha256" => 0x251,
    "hmac_sha384" => 0x261,
    "hmac_sha512" => 0x271
  }

  defp soft_hsm do
    [
      {:softhsm2, "AES-GCM", [:refused, :differs], flag("LongIv"),
       "an IV of 257 bytes is taken, and its first 12 are used: OpenSSL 3.0 takes no more than 128, " <>
         "which goes unnoticed", &gcm/2},
      {:softhsm2, "AES-CBC with padding", [:broken],
       &(flag("NoPadding").(&1) and &1.text =~ "module_misbehaved"),
       "no data in pieces: C_DecryptUpdate asks for room of 16 bytes less than none, which the library " <>
         "takes for no answer", &empty_cbc/2},
      {:softhsm2, "HMAC", [:refused], &(&1.comment == "short key"),
       "a key shorter than the digest is not taken", &short_hmac/2},
      {:softhsm2, "AES-KW", [:accepted], fn d -> d.way == :wrap end,
       "a key of 20 bytes is made longer, by zeros up to a multiple of 8 bytes, before it is wrapped",
       &wrap(@aes_key_wrap, &1, &2)},
      {:softhsm2, "AES-KWP", [:differs], fn d -> d.way == :wrap end,
       "the key is made longer, by zeros up to a multiple of 8 bytes, before it is wrapped",
       &wrap(@aes_key_wrap_pad, &1, &2)},
      {:softhsm2, "RSA PSS", [:refused], fn d -> d.text =~ "arguments_bad" end,
       "MGF1 with another hash than the message's is not taken", &pss/2},
      {:softhsm2, "RSA OAEP", [:refused], fn d -> d.text =~ "arguments_bad" end,
       "nothing but SHA-1 is taken, and no label", &oaep/2},
      {:softhsm2, "RSA OAEP", [:refused], flag("EncryptionWithLabel"),
       "a label is not taken, or not used", &oaep/2},
      {:softhsm2, "ECDH", [:refused], &like_der?/1,
       "a point that happens to look like a DER OCTET STRING (its second byte is the number of those " <>
         "behind it) is unpacked", &ecdh/2}
    ]
  end

  defp kryoptic do
    [
      # SoftHSM does what the OpenSSL of the machine does.
      {:any, "RSA PKCS #1 v1.5, decrypting", [:accepted], fn _ -> true end,
       "implicit rejection of OpenSSL 3.2 and newer: bytes by chance in place of an error, so that " <>
         "nobody learns whether the padding was right", &rsa_pkcs1/2},
      {:kryoptic, "AES-GCM", [:refused], flag("LongIv"), "an IV of 257 bytes is not taken",
       &gcm/2},
      {:kryoptic, "ChaCha20-Poly1305", [:refused], fn d -> d.way == :decrypt_steps end,
       "what is decrypted after the first piece gets lost", &chacha20/2},
      {:kryoptic, "AES-CBC with padding", [:refused], fn d -> d.way == :decrypt_steps end,
       "a piece shorter than a block is a device error", &cbc/2}
    ]
  end

  defp flag(name), do: fn d -> name in d.flags end

  ## The calls

  defp gcm(_group, t) do
    parameter = [hex(t["iv"]), byte_size(t["iv"]), 8 * byte_size(t["iv"])]
    parameter = parameter ++ [hex(t["aad"]), byte_size(t["aad"]), bit_size(t["tag"])]

    [
      aes(t),
      ["init", "decrypt", [@aes_gcm, parameter], "$0"],
      ["decrypt", hex(Ways.sealed(t))]
    ]
  end

  defp empty_cbc(_group, t) do
    [aes(t), ["init", "decrypt", [@aes_cbc_pad, hex(t["iv"])], "$0"], ["update", "decrypt", ""]]
  end

  defp cbc(_group, t) do
    <<first, rest::binary>> = t["ct"]

    [
      aes(t),
      ["init", "decrypt", [@aes_cbc_pad, hex(t["iv"])], "$0"],
      ["update", "decrypt", hex(<<first>>)],
      ["update", "decrypt", hex(rest)],
      ["final", "decrypt"]
    ]
  end

  defp chacha20(_group, t) do
    parameter = [hex(t["iv"]), byte_size(t["iv"]), hex(t["aad"]), byte_size(t["aad"])]
    <<first::binary-5, rest::binary>> = Ways.sealed(t)

    [
      ["create", secret(0x33, t["key"])],
      ["init", "decrypt", [@chacha20_poly1305, parameter], "$0"],
      ["update", "decrypt", hex(first)],
      ["update", "decrypt", hex(rest)],
      ["final", "decrypt"]
    ]
  end

  defp short_hmac(group, t) do
    [
      ["create", secret(0x10, t["key"])],
      ["init", "sign", [Map.fetch!(@hmacs, group["file"]), nil], "$0"],
      ["sign", hex(t["msg"])]
    ]
  end

  defp wrap(mechanism, _group, t) do
    [
      aes(t),
      ["create", secret(0x10, t["msg"])],
      ["wrap", [mechanism, nil], "$0", "$1"]
    ]
  end

  defp pss(group, t) do
    digest = :crypto.hash(digest_name(group["sha"]), t["msg"])
    mechanism = [@rsa_pkcs_pss, [@hashes[group["sha"]], @mgfs[group["mgfSha"]], group["sLen"]]]
    %{"modulus" => n, "publicExponent" => e} = group["publicKey"]

    [
      ["create", [[0, 2], [0x100, 0], [0x120, n], [0x122, e], [0x10A, true], [1, false]]],
      ["init", "verify", mechanism, "$0"],
      ["verify", hex(digest), hex(t["sig"])]
    ]
  end

  defp oaep(group, t) do
    label = t["label"]
    parameter = [@hashes[group["sha"]] || 0, @mgfs[group["mgfSha"]] || 0, 1]
    mechanism = [@rsa_pkcs_oaep, parameter ++ [hex(label), byte_size(label)]]
    [rsa_private(group), ["init", "decrypt", mechanism, "$0"], ["decrypt", hex(t["ct"])]]
  end

  defp rsa_pkcs1(group, t) do
    [
      rsa_private(group),
      ["init", "decrypt", [@rsa_pkcs, nil], "$0"],
      ["decrypt", hex(t["ct"])]
    ]
  end

  defp ecdh(%{"curve" => curve}, t) do
    {:ok, parameters} = Curve.encode(String.to_atom(curve))
    point = point(String.to_atom(curve), t)
    size = div(byte_size(point) - 1, 2)
    scalar = <<:binary.decode_unsigned(t["private"])::unit(8)-size(size)>>
    template = [[0, 3], [0x100, 3], [0x180, hex(parameters)], [0x11, hex(scalar)]]
    parameter = [1, 0, "", byte_size(point), hex(point)]

    [
      ["create", template ++ [[0x10C, true], [1, false]]],
      ["derive", [@ecdh1_derive, parameter], "$0", unwrapped()]
    ]
  end

  defp like_der?(%{group: %{"curve" => curve}, data: test}) do
    case point(String.to_atom(curve), test) do
      <<4, size, rest::binary>> when byte_size(rest) == size -> true
      <<4, 0x81, size, rest::binary>> when byte_size(rest) == size -> true
      _point -> false
    end
  end

  @doc "What a SubjectPublicKeyInfo ends with: the point."
  @spec point(atom, map) :: binary
  def point(curve, %{"public" => public}),
    do: binary_part(public, byte_size(public), -Probe.point_size(curve))

  ## What they are made of

  defp aes(t), do: ["create", secret(0x1F, t["key"])]

  defp secret(type, value) do
    may = for attribute <- [0x104, 0x105, 0x106, 0x107, 0x108], do: [attribute, true]
    [[0, 4], [0x100, type], [0x11, hex(value)], [0x103, false], [0x162, true], [1, false]] ++ may
  end

  defp unwrapped,
    do: [[0, 4], [0x100, 0x10], [0x103, false], [0x162, true], [1, false], [0x108, true]]

  @rsa [
    {0x120, "modulus"},
    {0x122, "publicExponent"},
    {0x123, "privateExponent"},
    {0x124, "prime1"},
    {0x125, "prime2"},
    {0x126, "exponent1"},
    {0x127, "exponent2"},
    {0x128, "coefficient"}
  ]

  defp rsa_private(%{"privateKey" => key}) do
    numbers = for {attribute, name} <- @rsa, do: [attribute, key[name]]
    ["create", [[0, 3], [0x100, 0], [0x105, true], [1, false]] ++ numbers]
  end

  @doc "A hash as `:crypto` calls it."
  @spec digest_name(String.t()) :: atom
  def digest_name("SHA-1"), do: :sha
  def digest_name("SHA-" <> size), do: String.to_atom("sha" <> size)

  defp hex(bytes), do: Base.encode16(bytes, case: :lower)

  @doc "Asks outside of the library; what came of the last call. Raises when the token does otherwise there."
  @spec ask(Token.t(), t, map) :: String.t()
  def ask(_token, %{calls: nil}, _disagreement), do: "-"

  def ask(token, row, disagreement) do
    {function, value, size} = Plain.run(token, row.calls.(disagreement.group, disagreement.data))

    taken? = disagreement.kind == :accepted or disagreement.way == :wrap

    if taken? != (value == 0) do
      raise "#{row.family} on #{row.token}: #{function} answers 0x#{Integer.to_string(value, 16)} " <>
              "outside of the library, which is not what it does here: #{inspect(disagreement)}"
    end

    text = "`#{function}` answers 0x#{Integer.to_string(value, 16)}"
    if value == 0, do: "#{text}, #{size} bytes", else: text
  end
end
