defmodule Cryptoki.NamesTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Names

  # Written down from the standard, not from the table.
  @known [
    {:mechanism, :rsa_pkcs_key_pair_gen, 0x0},
    {:mechanism, :aes_gcm, 0x1087},
    {:mechanism, :ml_dsa, 0x1D},
    {:mechanism, :sha_1, 0x220},
    {:attribute, :label, 0x3},
    {:attribute, :allowed_mechanisms, 0x40000600},
    {:class, :private_key, 0x3},
    {:key_type, :ec_edwards, 0x40},
    {:certificate_type, :x_509, 0x0},
    {:rv, :pin_incorrect, 0xA0},
    {:rv, :session_handle_invalid, 0xB3},
    {:user, :context_specific, 0x2},
    {:hardware_feature, :user_interface, 0x3},
    {:hedge, :deterministic_required, 0x2},
    {:kdf, :sha256_kdf, 0x6},
    {:mgf, :mgf1_sha256, 0x2},
    {:generator, :generate_counter, 0x2},
    {:profile, :baseline_provider, 0x1},
    {:prf, :pkcs5_pbkd2_hmac_sha256, 0x4},
    {:ml_dsa, :ml_dsa_65, 0x2},
    {:ml_kem, :ml_kem_1024, 0x3},
    {:slh_dsa, :slh_dsa_shake_256f, 0xC},
    {:parameter_set, :ml_kem_768, 0x2},
    {:session_state, :rw_user_functions, 0x3},
    {:validation_indicator, :last_validation_ok, 0x1},
    {:trust, :trust_anchor, 0x2},
    {:validation_type, :type_hardware, 0x2},
    {:validation_authority, :authority_type_nist_cmvp, 0x1},
    {:oaep_source, :data_specified, 0x1},
    {:salt_source, :salt_specified, 0x1},
    {:notification, :otp_changed, 0x1},
    {:otp_parameter, :output_format, 0x7},
    {:otp_format, :binary, 0x3},
    {:otp_requirement, :mandatory, 0x2},
    {:prf_data, :byte_array, 0x4},
    {:dkm_length_method, :sum_of_segments, 0x2},
    {:certificate_category, :authority, 0x2},
    {:security_domain, :third_party, 0x3},
    {{:flag, :token}, :user_pin_final_try, 0x20000},
    {{:flag, :slot}, :hw_slot, 0x4},
    {{:flag, :session}, :serial_session, 0x4},
    {{:flag, :mechanism}, :wrap, 0x20000},
    {{:flag, :otp}, :next_otp, 0x1}
  ]

  # old spelling, current spelling
  @aliases [
    {:mechanism, :ecdsa_key_pair_gen, :ec_key_pair_gen},
    {:mechanism, :cast5_cbc, :cast128_cbc},
    {:mechanism, :sha3_256_key_derive, :sha3_256_key_derivation},
    {:mechanism, :dsa_probablistic_parameter_gen, :dsa_probabilistic_parameter_gen},
    {:key_type, :ecdsa, :ec},
    {:key_type, :cast5, :cast128},
    {:attribute, :ecdsa_params, :ec_params},
    {:attribute, :sub_prime_bits, :subprime_bits},
    {:prf_data, :optional_counter, :counter},
    {{:flag, :mechanism}, :multi_messge, :multi_message},
    {{:flag, :mechanism}, :ec_namedcurve, :ec_oid}
  ]

  test "constants.txt is what the crate of the lock file says" do
    script = Path.expand("../../build/generate_constants.exs", __DIR__)

    {output, status} =
      System.cmd("elixir", [script, "--check", manifest()], stderr_to_stdout: true)

    assert {output, status} == {"", 0}
  end

  test "names and numbers are those of the standard" do
    for {kind, name, code} <- @known do
      assert {kind, name, Names.code(kind, name)} == {kind, name, {:ok, code}}

      if kind != :parameter_set do
        assert {kind, code, Names.name(kind, code)} == {kind, code, name}
      end
    end
  end

  test "old spellings are taken and the current one is given" do
    for {kind, old, current} <- @aliases do
      {:ok, code} = Names.code(kind, old)
      assert Names.code(kind, current) == {:ok, code}
      assert Names.name(kind, code) == current
    end
  end

  test "every name of every kind leads to its number and back to a name of the same number" do
    for kind <- Names.kinds(), kind != :parameter_set, {name, code} <- Names.all(kind) do
      assert Names.code(kind, name) == {:ok, code}
      assert Names.code(kind, Names.name(kind, code)) == {:ok, code}
    end
  end

  test "nothing of the standard is missing" do
    # PKCS #11 v3.2 as cryptoki-sys 0.5.0 has it
    counts = [attribute: 160, class: 13, key_type: 69, mechanism: 480, rv: 105]
    assert Enum.map(counts, fn {kind, _} -> {kind, length(Names.all(kind))} end) == counts
  end

  test "what has no name stays a number, and an unknown name is an error" do
    assert Names.name(:mechanism, 0x80000001) == 0x80000001
    assert Names.name(:rv, 4) == 4
    assert Names.name(:parameter_set, 1) == 1
    assert Names.code(:mechanism, :aes_gcn) == :error
    assert Names.code(:class, :aes_gcm) == :error
  end

  test "flags mean something in their structure only" do
    assert Names.flags(:token, 0x40D) ==
             [:rng, :login_required, :user_pin_initialized, :token_initialized]

    assert Names.flags(:slot, 0x5) == [:token_present, :hw_slot]
    assert Names.flags(:session, 0x6) == [:rw_session, :serial_session]
    assert Names.flags(:mechanism, 0x800 + 0x2000) == [:sign, :verify]
    assert Names.flags(:mechanism, 0x20) == [:multi_message]
    assert Names.flags(:session, 0x1 + 0x2) == [1, :rw_session]
    assert Names.flags(:token, 0) == []
    assert Names.flags(:mechanism, 0x80000000) == [:extension]
  end

  test "near misses" do
    assert :label in Names.near(:attribute, :lable)
    assert :aes_gcm in Names.near(:mechanism, :CKM_AES_GCM)
    assert :pkcs5_pbkd2_hmac_sha256 in Names.near(:prf, :hmac_sha256)
    assert Names.near(:class, :zzzzzz) == []
    assert Names.near([:one, :two], "one") == []
    assert length(Names.near(:mechanism, :sha)) <= 3
    assert Names.hint([:first, :second], :frist) == "; did you mean :first?"
    assert Names.hint([:first, :second], :xyz) == ""
  end

  defp manifest, do: Path.expand("../../Cargo.toml", __DIR__)
end
