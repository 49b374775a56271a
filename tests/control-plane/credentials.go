package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// users are the clients that have a kubeconfig, by the subject RBAC knows them by.
var users = map[string]pkix.Name{
	"admin":                   {CommonName: "admin", Organization: []string{"system:masters"}},
	"kube-controller-manager": {CommonName: "system:kube-controller-manager"},
	"kube-scheduler":          {CommonName: "system:kube-scheduler"},
}

const (
	// Certificates begin in the past, for tests that set an agent's clock back a little.
	certificateAge = time.Hour
	// No control plane of a test lives longer.
	certificateLife = 24 * time.Hour
)

// credentials is the certificate authority of one control plane.
type credentials struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

type keyPair struct{ certificate, key []byte }

// newCredentials writes the authority's, the server's and the service accounts' files to dir.
func newCredentials(dir string) (*credentials, error) {
	c, err := newAuthority()
	if err != nil {
		return nil, err
	}
	server, err := c.issue(pkix.Name{CommonName: "kube-apiserver"})
	if err != nil {
		return nil, err
	}
	accounts, err := newKey()
	if err != nil {
		return nil, err
	}
	accountsPEM, err := encodeKey(accounts)
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{
		"ca.crt":               c.pem,
		"server.crt":           server.certificate,
		"server.key":           server.key,
		"service-accounts.key": accountsPEM,
	} {
		if err := os.WriteFile(dir+"/"+name, content, 0o600); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func newAuthority() (*credentials, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "test cluster"},
		NotBefore:             time.Now().Add(-certificateAge),
		NotAfter:              time.Now().Add(certificateLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	certificate, encoded, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &credentials{certificate: certificate, key: key, pem: encoded}, nil
}

// issue makes a certificate that serves for the server, at loopback, as well as for a client.
func (c *credentials) issue(subject pkix.Name) (keyPair, error) {
	key, err := newKey()
	if err != nil {
		return keyPair{}, err
	}
	template := &x509.Certificate{
		Subject:     subject,
		NotBefore:   c.certificate.NotBefore,
		NotAfter:    c.certificate.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:    []string{"localhost", "kubernetes.default.svc"},
	}
	_, certificate, err := sign(template, c.certificate, key.Public(), c.key)
	if err != nil {
		return keyPair{}, err
	}
	encoded, err := encodeKey(key)
	return keyPair{certificate, encoded}, err
}

// writeKubeconfigs writes NAME.kubeconfig for each of the users, as self-contained as k3s writes its own.
func (c *credentials) writeKubeconfigs(dir, server string) error {
	for name, subject := range users {
		pair, err := c.issue(subject)
		if err != nil {
			return err
		}
		config := clientcmdapi.NewConfig()
		config.Clusters["test"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: c.pem}
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{
			ClientCertificateData: pair.certificate,
			ClientKeyData:         pair.key,
		}
		config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: name}
		config.CurrentContext = "test"
		if err := clientcmd.WriteToFile(*config, dir+"/"+name+".kubeconfig"); err != nil {
			return err
		}
	}
	return nil
}

func sign(template, parent *x509.Certificate, key crypto.PublicKey, parentKey crypto.Signer) (*x509.Certificate, []byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, parentKey)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
}
